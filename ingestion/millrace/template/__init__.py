"""What a new project is made from.

``files`` and ``copier.yml`` are the template. ``rendering`` fills it in, and ``repository`` keeps
what was filled in apart from what people write, so that a later template is merged in.
"""
