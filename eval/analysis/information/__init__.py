"""The information curve: what every signal tells by how much of the answer was generated, fitted signals included."""
