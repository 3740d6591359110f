"""What any training needs, whatever it trains on."""
