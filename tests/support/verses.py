"""A small corpus: nursery rhymes in the public domain, cut to lines that share their letters."""

VERSES = [
    "the king was in his counting house, counting out his money;\n"
    "the queen was in the parlour, eating bread and honey.\n",
    "the maid was in the garden, hanging out the clothes,\n"
    "when down came a blackbird and pecked off her nose.\n",
    "sing a song of sixpence, a pocket full of rye;\nfour and twenty blackbirds, baked in a pie.\n",
    "when the pie was opened, the birds began to sing;\n"
    "was not that a dainty dish, to set before the king;\n",
    "hey diddle diddle, the cat and the fiddle, the cow jumped over the moon;\n"
    "the little dog laughed to see such sport, and the dish ran away with the spoon.\n",
    "jack and jill went up the hill to fetch a pail of water;\n"
    "jack fell down and broke his crown, and jill came tumbling after.\n",
]
