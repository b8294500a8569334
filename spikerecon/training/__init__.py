"""Training of STIR on moving pictures: `scenes` makes the data, `loop` trains."""
