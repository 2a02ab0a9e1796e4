package afterlens.app

import android.content.Context

/** A service that every device has. */
inline fun <reified T : Any> Context.service(): T = checkNotNull(getSystemService(T::class.java)) { "no ${T::class.java}" }
