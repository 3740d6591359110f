"""What an experiment gave: figures, tables, pages, comparison."""
