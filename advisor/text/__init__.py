"""An answer as tables, JSON and figures."""
