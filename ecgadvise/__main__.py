"""``python -m ecgadvise`` is the command ``ecgadvise``."""

from ecgadvise import main

if __name__ == "__main__":
    main()
