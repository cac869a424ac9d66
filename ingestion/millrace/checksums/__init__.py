"""What was read and loaded is compared with the source by value."""
