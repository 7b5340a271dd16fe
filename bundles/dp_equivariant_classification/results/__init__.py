"""What inference leaves for each image and for a folder of them."""
