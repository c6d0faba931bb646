"""What the gateway does beside routing: one file for each feature, which holds its meaning and what it emits."""
