"""Train light image-to-image networks, convert them for phones, prove the files, measure them."""
