"""Several passes of an image through a network, merged: of its windows, flipped, at other sizes."""
