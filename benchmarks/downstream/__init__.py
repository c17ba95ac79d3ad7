"""Scoring a host's model: the same test on original, compressed and restored images, by the host's own loop and metric.

``hosts``  what knows mmdet and mmseg: their configs, Runner, data and processes
``report``  tables and pages, drawn from results.json alone
"""
