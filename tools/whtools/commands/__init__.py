"""One module a subcommand of `wh`, imported when called."""
