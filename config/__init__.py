"""The TOML file: settings, validation, messages that point at the line; shipped examples.

:func:`taskmaster.config.load.load` reads a file; :mod:`taskmaster.config.settings` is what it returns;
:func:`taskmaster.config.schema.json_schema` describes the file to editors.
"""
