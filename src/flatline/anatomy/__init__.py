"""What a model consists of: sites of nonlinearities, their units, what feeds and reads them."""
