"""The PhysioNet/CinC Challenges, one year a file; that of 2021 also has the form of 2020."""
