"""What ``taskmaster demo`` shows: one module for each demonstration, and what they share."""
