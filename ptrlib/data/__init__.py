"""Episodes, the files they come from, how they are corrupted, and the chunks that training sees."""
