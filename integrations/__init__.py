"""Adapters to hosts, installed as ``dagn_pre.integrations``."""
