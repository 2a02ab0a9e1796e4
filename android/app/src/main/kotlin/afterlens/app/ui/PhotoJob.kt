package afterlens.app.ui

import afterlens.app.Bundles
import afterlens.app.Choice
import afterlens.app.Photos
import afterlens.app.R
import afterlens.app.bitmap
import afterlens.app.picture
import afterlens.core.BundleCheck
import afterlens.core.Fault
import afterlens.lens.photo.PhotoRestorer
import android.content.Context
import android.graphics.Bitmap
import android.net.Uri
import java.io.IOException

/** One photo through one bundle. */
class PhotoJob(
    private val context: Context,
    private val photo: Uri,
    private val choice: Choice?,
    private val restorer: (BundleCheck) -> PhotoRestorer = ::PhotoRestorer,
) {
    /** The photo, what was made of it, and what to say; a picture is null where it could not be had. */
    class Outcome(val before: Bitmap?, val after: Bitmap?, val words: String)

    /** Takes seconds: not for the main thread. */
    fun run(): Outcome {
        val before = try {
            Photos(context.contentResolver).read(photo)
        } catch (_: IOException) {
            return Outcome(null, null, context.getString(R.string.photo_unreadable))
        } catch (_: SecurityException) { // the permission to read it ended with the activity that picked it
            return Outcome(null, null, context.getString(R.string.photo_unreadable))
        }
        return when (choice) {
            is Choice.Usable -> restored(before, choice)
            is Choice.Broken -> Outcome(before, null, context.getString(R.string.bundle_broken, choice.name, choice.reason))
            null -> Outcome(before, null, context.getString(R.string.bundle_none, Bundles(context).folder))
        }
    }

    private fun restored(before: Bitmap, choice: Choice.Usable): Outcome = try {
        val begin = System.nanoTime()
        val after = restorer(choice.bundle).restore(before.picture()).bitmap()
        Outcome(before, after, context.getString(R.string.photo_done, choice.name, (System.nanoTime() - begin) / 1e9))
    } catch (fault: Fault) {
        Outcome(before, null, context.getString(R.string.bundle_broken, choice.name, fault.message))
    } catch (error: LinkageError) { // the runtime's library is not there for this processor
        Outcome(before, null, context.getString(R.string.model_failed, error.message))
    }
}
