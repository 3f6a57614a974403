"""An answer as one page that stands alone."""
