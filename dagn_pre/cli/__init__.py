"""The ``dagn-pre`` command; one module per subcommand, each with HELP, EXAMPLE, add_arguments and run."""
