"""The pages: complete without a script, where forms post and are sent on."""
