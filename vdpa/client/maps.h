/* SPDX-License-Identifier: MIT */
/* What is behind addresses of this process: files that can be handed on, or private memory. */
#ifndef VDPA_CLIENT_MAPS_H
#define VDPA_CLIENT_MAPS_H

#include "vdpa/client/vhost_wire.h"

/*
 * Pieces of [@uaddr, @uaddr + @size), merged where they go on, up to the first hole. Files are put
 * into @fds (VDPA_MSG_FDS; *@nfds counts) once each; @opened tells which are new, and the caller's
 * to close. What finds no descriptor or no room is described as private. Returns the number of pieces.
 */
unsigned vdpa_maps_pieces(u64 uaddr, u64 size, struct vhost_wire_piece *pieces, unsigned room, int *fds,
			  bool *opened, unsigned *nfds);

#endif
