package afterlens.core

/** Width and height in pixels. */
data class Size(val width: Int, val height: Int) {
    override fun toString() = "${width}x$height"
}
