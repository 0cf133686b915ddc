"""What the command line needs of an application, whichever library it is built on."""
