"""Host names of the overlay."""
