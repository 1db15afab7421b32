def documentation_routes(document):
    return []
