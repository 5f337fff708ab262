"""Who is who: keys, wallets, credentials, admissions, and the roster folded from them."""
