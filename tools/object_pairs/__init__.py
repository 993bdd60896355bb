"""Builds the object-pairs release: models of Debian's sweethome3d-furniture, rendered."""
