package afterlens.app

import afterlens.core.Fault
import afterlens.core.Picture
import android.Manifest
import android.content.ContentResolver
import android.content.ContentValues
import android.content.Context
import android.content.pm.PackageManager
import android.graphics.Bitmap
import android.graphics.ColorSpace
import android.graphics.ImageDecoder
import android.net.Uri
import android.os.Build
import android.provider.MediaStore
import java.io.IOException
import kotlin.math.max

/** Photos in and out of the device's storage. */
class Photos(private val resolver: ContentResolver) {
    /**
     * Upright, in sRGB, shrunk where a side is longer than 2560 pixels: phones have little memory. Throws an
     * [IOException] or a SecurityException where it cannot be read.
     */
    fun read(photo: Uri): Bitmap {
        val source = ImageDecoder.createSource(resolver, photo)
        return ImageDecoder.decodeBitmap(source) { decoder, info, _ ->
            decoder.allocator = ImageDecoder.ALLOCATOR_SOFTWARE // so that its pixels can be read
            decoder.setTargetColorSpace(ColorSpace.get(ColorSpace.Named.SRGB))
            val side = max(info.size.width, info.size.height)
            if (side > MOST_SIDE) {
                val (width, height) = info.size.width * MOST_SIDE / side to info.size.height * MOST_SIDE / side
                decoder.setTargetSize(max(1, width), max(1, height))
            }
        }
    }

    /** Writes a PNG into Pictures/Afterlens; nobody sees it before it is complete. Throws a [Fault] with the reason. */
    fun save(picture: Bitmap, name: String): Uri {
        val collection = MediaStore.Images.Media.EXTERNAL_CONTENT_URI
        val uri = try {
            resolver.insert(collection, entry(name))
        } catch (error: SecurityException) {
            throw Fault(error.message.orEmpty())
        } ?: throw Fault("MediaStore takes no picture.")
        try {
            val stream = resolver.openOutputStream(uri) ?: throw IOException("$uri cannot be written.")
            stream.use { if (!picture.compress(Bitmap.CompressFormat.PNG, 100, it)) throw IOException("No space left.") }
            if (Build.VERSION.SDK_INT >= Build.VERSION_CODES.Q) {
                resolver.update(uri, ContentValues().apply { put(MediaStore.Images.Media.IS_PENDING, 0) }, null, null)
            }
            return uri
        } catch (error: IOException) {
            resolver.delete(uri, null, null)
            throw Fault(error.message.orEmpty())
        }
    }

    private fun entry(name: String) = ContentValues().apply {
        put(MediaStore.Images.Media.DISPLAY_NAME, "$name.png")
        put(MediaStore.Images.Media.MIME_TYPE, "image/png")
        if (Build.VERSION.SDK_INT >= Build.VERSION_CODES.Q) {
            put(MediaStore.Images.Media.RELATIVE_PATH, "Pictures/Afterlens")
            put(MediaStore.Images.Media.IS_PENDING, 1)
        }
    }

    companion object {
        /** What Android 9 asks for. */
        const val PERMISSION = Manifest.permission.WRITE_EXTERNAL_STORAGE

        fun needsPermission(context: Context): Boolean = Build.VERSION.SDK_INT < Build.VERSION_CODES.Q &&
            context.checkSelfPermission(PERMISSION) != PackageManager.PERMISSION_GRANTED

        private const val MOST_SIDE = 2560 // pixels; a picture of this size takes 80 MB as floats
    }
}

/** sRGB from 0 to 1. */
fun Bitmap.picture(): Picture {
    val pixels = IntArray(width * height)
    getPixels(pixels, 0, width, 0, 0, width, height)
    val values = FloatArray(pixels.size * 3)
    for ((index, pixel) in pixels.withIndex()) {
        for (channel in 0..2) values[index * 3 + channel] = (pixel shr (16 - 8 * channel) and 255) / 255f
    }
    return Picture(width, height, values)
}

fun Picture.bitmap(): Bitmap {
    val pixels = IntArray(width * height) { index ->
        (0..2).fold(255) { pixel, channel -> pixel shl 8 or (values[index * 3 + channel] * 255 + 0.5f).toInt() }
    }
    return Bitmap.createBitmap(pixels, width, height, Bitmap.Config.ARGB_8888)
}
