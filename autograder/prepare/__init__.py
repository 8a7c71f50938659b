"""Stage 1, on the host: makes a clean job of a submission, which nobody vouches for."""
