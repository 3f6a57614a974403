"""The user's own records: what is in them, and the pilot that is trained on them."""
