package afterlens.app.ui

import android.app.Activity
import android.content.ActivityNotFoundException
import android.content.Intent
import android.net.Uri
import android.os.Build
import android.provider.MediaStore

/** The system's own picker: it needs no permission, since only the chosen photo is handed out. */
class PhotoPicker(private val activity: Activity) {
    /** False where this device has none. */
    fun open(): Boolean = intents().any { intent ->
        try {
            activity.startActivityForResult(intent, REQUEST)
            true
        } catch (_: ActivityNotFoundException) {
            false
        }
    }

    /** What was picked, from the arguments of onActivityResult; null where nothing was. */
    fun picked(request: Int, result: Int, data: Intent?): Uri? =
        data?.data.takeIf { request == REQUEST && result == Activity.RESULT_OK }

    private fun intents(): List<Intent> {
        val document = Intent(Intent.ACTION_OPEN_DOCUMENT).addCategory(Intent.CATEGORY_OPENABLE).setType("image/*")
        if (Build.VERSION.SDK_INT < Build.VERSION_CODES.TIRAMISU) return listOf(document)
        return listOf(Intent(MediaStore.ACTION_PICK_IMAGES).setType("image/*"), document)
    }

    private companion object {
        const val REQUEST = 1
    }
}
