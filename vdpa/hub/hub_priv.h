/* SPDX-License-Identifier: MIT */
/* What the files of vdpa/hub share. */
#ifndef VDPA_HUB_PRIV_H
#define VDPA_HUB_PRIV_H

#include "vdpa/hub/hub.h"

/* Serve a new connection, which becomes the hub's; closed at once if it is another user's. */
void hub_new_client(int sock);
/* Something is open or held. */
bool hub_has_files(void);
/* Start the parts. 0 or -errno. */
int hub_init_parts(void);

#endif
