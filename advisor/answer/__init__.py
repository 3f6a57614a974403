"""From a question and a curves file to a recommendation: no file is read, nothing is printed."""
