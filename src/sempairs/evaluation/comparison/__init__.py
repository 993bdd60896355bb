"""Two encoders on the same images: paired differences, pictures and a page."""
