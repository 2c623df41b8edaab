"""The one way in which a file is written: as a whole or not at all."""
