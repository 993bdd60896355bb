"""Pictures changed before they are embedded, and how far features move with them."""
