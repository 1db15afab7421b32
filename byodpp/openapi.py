def openapi_document(registry, schemas, logics):
    return {"openapi": "3.1.0"}
