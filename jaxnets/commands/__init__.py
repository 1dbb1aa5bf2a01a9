"""The commands: what each does, given its arguments; ``cli.COMMANDS`` lists them."""
