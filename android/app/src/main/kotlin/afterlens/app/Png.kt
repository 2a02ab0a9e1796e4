package afterlens.app

import afterlens.core.Fault
import afterlens.core.PngDecoder
import android.graphics.BitmapFactory

/** Decodes the golden pictures of a bundle, by Android's own decoder. */
val png = PngDecoder { bytes ->
    val options = BitmapFactory.Options().apply { inPremultiplied = false }
    BitmapFactory.decodeByteArray(bytes, 0, bytes.size, options)?.picture() ?: throw Fault("a golden picture is no PNG")
}
