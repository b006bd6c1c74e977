"""What every package uses: arrays, files that are whole or absent, threads."""
