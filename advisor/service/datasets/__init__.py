"""Records that the service works on: archives that were uploaded, and folders that the operator lets be named."""
