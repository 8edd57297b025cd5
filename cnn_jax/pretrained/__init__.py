"""What pretrained weights exist and what preprocessing belongs to them; loading them."""
