package afterlens.app.ui

import afterlens.app.R
import android.Manifest
import android.app.Activity
import android.content.ActivityNotFoundException
import android.content.Intent
import android.content.pm.PackageManager
import android.net.Uri
import android.provider.Settings

/** Asks for the camera once; after that, says what the user can do. */
class CameraPermission(private val activity: Activity) {
    val isGiven get() = activity.checkSelfPermission(CAMERA) == PackageManager.PERMISSION_GRANTED

    /** Whether Android's own question is on the screen. */
    var isAsked = false
        private set

    fun ask() {
        isAsked = true
        activity.requestPermissions(arrayOf(CAMERA), REQUEST)
    }

    /** Takes the arguments of an onRequestPermissionsResult; false where they are not about the camera. */
    fun answered(request: Int): Boolean {
        if (request != REQUEST) return false
        isAsked = false
        return true
    }

    /** Android asks no more once the user has refused twice, and then only the settings help. */
    fun message(): Message = if (activity.shouldShowRequestPermissionRationale(CAMERA)) {
        Message(activity.getString(R.string.permission_needed), R.string.permission_ask, ::ask)
    } else {
        Message(activity.getString(R.string.permission_denied), R.string.permission_settings, ::openSettings)
    }

    private fun openSettings() {
        val page = Uri.fromParts("package", activity.packageName, null)
        try {
            activity.startActivity(Intent(Settings.ACTION_APPLICATION_DETAILS_SETTINGS, page))
        } catch (_: ActivityNotFoundException) {
            activity.startActivity(Intent(Settings.ACTION_SETTINGS))
        }
    }

    private companion object {
        const val CAMERA = Manifest.permission.CAMERA
        const val REQUEST = 1
    }
}
