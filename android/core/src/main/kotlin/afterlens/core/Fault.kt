package afterlens.core

/** A bundle, a document or a request that cannot be used; the message is one line for people. */
open class Fault(message: String) : Exception(message)
