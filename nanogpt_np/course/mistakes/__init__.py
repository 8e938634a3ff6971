"""The known mistakes of each assignment, in a module of its name: wrong versions, and the words for them."""
