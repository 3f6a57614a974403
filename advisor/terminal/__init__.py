"""What a terminal needs: progress, completion, failures in one sentence, the files that are written."""
