"""Jobs: commands of the command line that go on when the browser is closed, and when the server is killed."""
