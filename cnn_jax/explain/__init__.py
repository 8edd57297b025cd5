"""Why a network says what it says, as maps over the image, each with the tests that it passed."""
