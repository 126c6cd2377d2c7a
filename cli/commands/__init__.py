"""The commands, one module each; `app` imports the one that is called."""
