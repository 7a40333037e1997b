"""All pairs of anyone's images, and of a sweep's, and what they say: records, facts, answers."""
