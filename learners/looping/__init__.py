"""What a Loop is made of beside asking and telling: hooks, figures, interrupts, progress, several of them at a time."""
